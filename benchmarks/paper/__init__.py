"""The paper's experiments, in its form and in ours."""
