-- Pull requests known at the cut-off.
SELECT lower(requests.repository) AS folded,
       requests.number AS number,
       requests.title AS title,
       requests.labels AS labels,
       requests.head_ref AS head_ref,
       requests.created_at AS created_at,
       requests.first_review_at AS first_review_at,
       requests.approved_at AS approved_at,
       requests.merged_at AS merged_at,
       requests.merge_commit_sha AS merge_commit_sha,
       requests.commits AS commits
FROM pull_requests AS requests
CROSS JOIN params
WHERE requests.created_at <= params.now
ORDER BY folded
