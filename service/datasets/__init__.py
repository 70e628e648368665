"""Image sets of a project: what import jobs and trainings have brought into the store."""
