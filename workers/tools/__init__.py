"""What `cdm` does with files of weights itself, without a job; plain functions that Python may call as well."""
