from ict_ref import Run

run = Run.load("runs/mine", network="my_digits:Net")
images = run.sample(10, sigmas=[80, 0.8], seed=1)  # in two steps
run.save("runs/copy")
