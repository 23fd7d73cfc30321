-- Every matched attempt, sorted by service. Lists and structs are the deployments' own and come by the record's place:
-- no engine shares a way to write an empty one.
WITH matched AS (
    SELECT service, kind, source_id, run_id, attempt, region, repository, environment, sha, digest,
           artifact_repository, artifact_sha, ref, status, created_at, started_at, finished_at, creator, source, origin,
           line
    FROM matched_deployments
    UNION ALL
    SELECT service, kind, source_id, run_id, attempt, region, repository, environment, sha, digest,
           artifact_repository, artifact_sha, ref, status, created_at, started_at, finished_at, creator, source, origin,
           line
    FROM matched_runs
    UNION ALL
    SELECT service, kind, source_id, run_id, attempt, region, repository, environment, sha, digest,
           artifact_repository, artifact_sha, ref, status, created_at, started_at, finished_at, creator, source, origin,
           line
    FROM matched_tags
)
SELECT matched.service AS service,
       matched.kind AS kind,
       matched.source_id AS source_id,
       matched.run_id AS run_id,
       matched.attempt AS attempt,
       matched.region AS region,
       matched.repository AS repository,
       matched.environment AS environment,
       matched.sha AS sha,
       matched.digest AS digest,
       matched.artifact_repository AS artifact_repository,
       matched.artifact_sha AS artifact_sha,
       matched.ref AS ref,
       matched.status AS status,
       told.statuses AS statuses,
       matched.created_at AS created_at,
       matched.started_at AS started_at,
       matched.finished_at AS finished_at,
       told.labels AS labels,
       matched.creator AS creator,
       told.revisions AS revisions,
       matched.origin AS origin,
       matched.line AS line
FROM matched
LEFT JOIN deployments AS told
  ON matched.kind = 'deployment' AND told.source = matched.source AND told.origin = matched.origin
 AND told.line = matched.line AND told.deployment_id = matched.source_id AND coalesce(told.attempt, 1) = matched.attempt
ORDER BY service
