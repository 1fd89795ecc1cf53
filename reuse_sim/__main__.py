"""`python -m reuse_sim`, the same as `reuse-sim`."""

from reuse_sim.cli import main

if __name__ == "__main__":
    main()
