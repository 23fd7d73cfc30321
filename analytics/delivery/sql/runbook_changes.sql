-- Every known commit that changed a runbook: from the revisions that sources report of watched paths, and from the
-- files that commits name. A runbook may be a folder. Source: metrics.md section 4, rows 8 and 17.
CREATE OR REPLACE TEMP TABLE runbook_changed AS
WITH changed AS (
    SELECT lower(repository) AS folded, path AS file, sha, committed_at
    FROM file_revisions
    UNION ALL
    SELECT folded, path, change.sha, change.committed_at
    FROM (SELECT lower(repository) AS folded, path, unnest(earlier) AS change FROM file_revisions)
    UNION ALL
    SELECT lower(repository), unnest(files), sha, committed_at
    FROM commits
    SEMI JOIN (SELECT DISTINCT lower(repository) AS folded FROM runbook_paths) AS wanted
      ON wanted.folded = lower(commits.repository)
    WHERE len(files) > 0
)
SELECT DISTINCT paths.service, paths.purpose, paths.path, changed.sha, changed.committed_at AS changed_at,
       local_day(changed.committed_at) AS day
FROM runbook_paths AS paths
JOIN changed
  ON changed.folded = lower(paths.repository)
 AND (changed.file IN (paths.path, paths.plain) OR starts_with(changed.file, paths.plain || '/'))
CROSS JOIN params
WHERE changed.committed_at <= params.now
