"""All-reduce and efficiency, against closed forms by hand."""

from ict_ref.plan.scaling import Links, ScaledStep, ring_all_reduce_s, scaled_step, stops_paying

# One GPU sends 8 bytes a second within a node of 4 GPUs, and 2 between nodes.
LINKS = Links(gpus_per_node=4, within_node=8.0, between_nodes=2.0)


def step(gpus: int, largest: int = 1000, gradient: int = 16) -> ScaledStep:
    """Return the step of 64 images, each of which takes a second."""
    return scaled_step(
        gpus, work_s=64.0, batch_size=64, noise_shards=16, largest_microbatch=largest, gradient=gradient, links=LINKS
    )


def test_an_all_reduce_sends_each_byte_nearly_twice() -> None:
    assert ring_all_reduce_s(10, 1, 5.0) == 0
    assert ring_all_reduce_s(10, 2, 5.0) == 2
    assert ring_all_reduce_s(10, 5, 4.0) == 4


def test_the_slowest_link_of_a_ring_decides() -> None:
    assert [LINKS.bandwidth(gpus) for gpus in (1, 4, 5, 64)] == [8, 8, 2, 2]
    assert Links(4, 1.0, 2.0).bandwidth(5) == 1


def test_one_gpu_exchanges_nothing() -> None:
    alone = step(1)
    assert (alone.compute_s, alone.exchange_s, alone.step_s, alone.efficiency) == (64, 0, 64, 1)


def test_half_of_the_last_microbatch_hides_the_exchange() -> None:
    # 4 GPUs: 16 s of work, 2 * 3/4 * 16 / 8 = 3 s of exchange, hidden in 8 s of backward pass.
    assert (step(4).exchange_s, step(4).step_s) == (3, 16)
    # In microbatches of 4 images the last backward pass takes 2 s: 1 s is not hidden.
    small = step(4, largest=4)
    assert (small.microbatches, small.step_s, small.efficiency) == (4, 17, 16 / 17)
    # 16 GPUs on 4 nodes: 4 s of work, 2 * 15/16 * 16 / 2 = 15 s, of which 2 s are hidden.
    assert (step(16).exchange_s, step(16).step_s, step(16).efficiency) == (15, 17, 4 / 17)


def test_fewer_images_than_gpus_leave_one_image_each() -> None:
    assert step(128).compute_s == 1


def test_gpus_stop_paying_below_half_of_a_step_or_where_shards_cannot_be_divided() -> None:
    by_efficiency = stops_paying(step)
    assert by_efficiency is not None
    # 8 GPUs: 8 s of work, 14 s of exchange, 4 s hidden, so 8 / 18.
    assert (by_efficiency.gpus, by_efficiency.efficiency, by_efficiency.is_allowed) == (8, 8 / 18, True)
    by_shards = stops_paying(lambda gpus: step(gpus, gradient=0))
    assert by_shards is not None
    assert (by_shards.gpus, by_shards.is_allowed, by_shards.efficiency) == (32, False, 1)
    assert stops_paying(lambda gpus: step(gpus, gradient=0), most=16) is None
