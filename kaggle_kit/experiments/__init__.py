"""The questions of the study that take more than one run, a file each."""
