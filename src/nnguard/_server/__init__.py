"""The license server: HTTP in front of the ledger and its issuer. Holds no state of its own."""
