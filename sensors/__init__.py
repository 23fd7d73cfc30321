"""When things happen: jobs, schedules, sensors."""
