"""`python -m genmem`, the same as `genmem`; torchrun starts it so."""

from genmem.cli import main

main(prog_name="genmem")
