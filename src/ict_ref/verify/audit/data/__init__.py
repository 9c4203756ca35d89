"""An audit of training data: their range, layout, flips, order, shards and labels."""
