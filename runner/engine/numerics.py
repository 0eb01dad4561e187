"""The version of the arithmetic, recorded with each run."""

# Raised with every change of the arithmetic: runs of different versions may differ in any bit, and `resume` does not
# use the results of an older one.
NUMERICS = 6
