-- Runs of which an attempt before the last one failed.
SELECT base.repository AS repository, base.run_id AS run_id
FROM run_base AS base
JOIN run_last_attempt AS last ON last.repository = base.repository AND last.run_id = base.run_id
WHERE base.attempt < last.attempt AND base.outcome IN ('failure', 'timed_out', 'startup_failure')
GROUP BY base.repository, base.run_id
