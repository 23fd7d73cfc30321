-- Commits known at the cut-off, with what their messages say extracted. Files are kept only for repositories with a path
-- filter: they are most of a commit's bytes.
SELECT lower(commits.repository) AS folded,
       commits.sha AS sha,
       commits.parents AS parents,
       commits.author AS author,
       commits.is_bot AS is_bot,
       commits.authored_at AS authored_at,
       commits.patch_id AS patch_id,
       CASE WHEN filtered.repository IS NOT NULL THEN commits.files END AS files,
       regexp_extract_all(commits.message, '(?i)this reverts commit ([0-9a-f]{7,64})', 1) AS reverts,
       regexp_extract_all(
           commits.message, '(?i)\breverts (?:pull request )?(?:[\w.-]+/[\w.-]+)?[#!]([0-9]{1,9})', 1
       ) AS reverts_pull_requests,
       regexp_extract_all(commits.message, '(?i)cherry[ -]picked from commit ([0-9a-f]{7,64})', 1) AS picked_from
FROM commits
CROSS JOIN params
LEFT JOIN path_filtered AS filtered ON filtered.repository = lower(commits.repository)
WHERE commits.committed_at <= params.now
ORDER BY folded
