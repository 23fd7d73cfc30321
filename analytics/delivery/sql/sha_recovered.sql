-- A failed run and then a successful one of the same workflow and sha: the first success after the first failure.
SELECT base.repository AS repository, base.workflow AS workflow, base.head_sha AS head_sha,
       min(base.created_at) AS recovered_at
FROM run_base AS base
JOIN sha_failed AS failed
  ON failed.repository = base.repository AND failed.workflow = base.workflow AND failed.head_sha = base.head_sha
LEFT JOIN run_last_attempt AS last ON last.repository = base.repository AND last.run_id = base.run_id
WHERE base.outcome = 'success'
  AND base.attempt = coalesce(last.attempt, 1)
  AND base.created_at > failed.first_failed_at
GROUP BY base.repository, base.workflow, base.head_sha
