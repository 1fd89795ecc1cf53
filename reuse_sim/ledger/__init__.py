"""The ledger: what teacher and human cost in bits, by codes that are really written and read back, and who wins."""
