-- Every known commit that changed a runbook: from the revisions that sources report of watched paths, and from the
-- files that commits name. A runbook may be a folder. Source: metrics.md section 4, rows 8 and 17.
WITH changed AS (
    SELECT lower(repository) AS folded, path AS file, sha, committed_at
    FROM file_revisions
    UNION ALL
    SELECT lower(repository) AS folded, path AS file, change.sha AS sha, change.committed_at AS committed_at
    FROM earlier_revisions
    UNION ALL
    SELECT wanted.folded AS folded, files.file AS file, files.sha AS sha, files.committed_at AS committed_at
    FROM commit_files AS files
    JOIN (SELECT DISTINCT lower(repository) AS folded FROM runbook_paths) AS wanted
      ON wanted.folded = lower(files.repository)
)
SELECT DISTINCT paths.service AS service, paths.purpose AS purpose, paths.path AS path, changed.sha AS sha,
       changed.committed_at AS changed_at, local_day(changed.committed_at) AS day
FROM runbook_paths AS paths
JOIN changed ON changed.folded = lower(paths.repository)
CROSS JOIN params
WHERE changed.committed_at <= params.now
  AND (changed.file = paths.path OR changed.file = paths.plain
       OR substr(changed.file, 1, length(paths.plain) + 1) = paths.plain || '/')
