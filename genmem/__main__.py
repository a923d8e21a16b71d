"""`python -m genmem`, the same as `genmem`; torchrun starts it so."""

from genmem.cli import main

# The processes of --nproc import this module anew.
if __name__ == "__main__":
    main(prog_name="genmem")
