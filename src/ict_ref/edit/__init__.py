"""Zero-shot editing of images with a trained model (CM, Algorithm 4): `python -m ict_ref.edit`.

`inputs` reads images, labels and masks. `tasks` defines the pixels that each task keeps and makes. `between`
interpolates samples, and `work` runs a task and writes the result. The formulas are in `ict_ref.formulas.editing`.
"""
