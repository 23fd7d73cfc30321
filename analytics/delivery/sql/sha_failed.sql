-- When a workflow first failed on a sha in a run that did not succeed in the end.
SELECT base.repository AS repository, base.workflow AS workflow, base.head_sha AS head_sha,
       min(base.created_at) AS first_failed_at
FROM run_base AS base
LEFT JOIN (
    SELECT ended.repository AS repository, ended.run_id AS run_id
    FROM run_base AS ended
    JOIN run_last_attempt AS last
      ON last.repository = ended.repository AND last.run_id = ended.run_id AND last.attempt = ended.attempt
    WHERE ended.outcome = 'success'
) AS mended ON mended.repository = base.repository AND mended.run_id = base.run_id
WHERE base.outcome IN ('failure', 'timed_out', 'startup_failure') AND mended.run_id IS NULL
GROUP BY base.repository, base.workflow, base.head_sha
