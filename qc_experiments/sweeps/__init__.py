"""Many runs: the jobs, their workers, halving, and what they are going to do."""
