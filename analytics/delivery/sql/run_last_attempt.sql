-- The last attempt of each run that was run again. A later attempt exists only where attempt > 1, so first attempts need
-- no grouping (the bulk of ten million rows).
SELECT repository, run_id, max(attempt) AS attempt
FROM run_base
WHERE attempt > 1
GROUP BY repository, run_id
