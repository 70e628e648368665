"""What happens to jobs, posted to URLs that users give."""
