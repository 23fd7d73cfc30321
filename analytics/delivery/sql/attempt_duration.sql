-- From the first start to the last completion of a run attempt's own jobs. Source: metrics.md section 3 (duration).
SELECT repository, run_id, attempt, us_between(min(started_at), max(completed_at)) AS duration_us
FROM job_times
WHERE NOT carried_over
GROUP BY repository, run_id, attempt
