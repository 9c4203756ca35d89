"""F_theta, the free-form network of Eq. (2), and the consistency model f_theta around it."""
