"""The main job: training on images from the command line, on Lightning."""
