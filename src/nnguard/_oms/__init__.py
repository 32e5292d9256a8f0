"""OpenSSF Model Signing: bundles that sign the files of a folder, as `model_signing` has them.

A bundle says which files a folder has, with the SHA-256 of each; ECDSA signs that. It stands beside
nnguard's own signature, which is in the weights, and knows nothing of it.
"""
