"""The free-form network F_theta of Eq. (2), and the consistency model f_theta built from it."""
