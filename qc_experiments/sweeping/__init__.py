"""Many runs: the process that trains them one after the other, and what came of each."""
