"""How a run is made: a session on Lightning that trains, checkpoints, resumes and sums up."""
