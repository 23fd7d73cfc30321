-- Deployments with the service they belong to. What may be NULL is compared with a mark in front, NULL as no text.
SELECT matched.service AS service,
       'deployment' AS kind,
       told.deployment_id AS source_id,
       told.run_id AS run_id,
       coalesce(told.attempt, 1) AS attempt,
       told.region AS region,
       told.repository AS repository,
       told.environment AS environment,
       told.sha AS sha,
       told.digest AS digest,
       built.repository AS artifact_repository,
       built.sha AS artifact_sha,
       told.ref AS ref,
       told.status AS status,
       told.created_at AS created_at,
       told.started_at AS started_at,
       told.finished_at AS finished_at,
       told.revisions AS revisions,
       told.creator AS creator,
       told.source AS source,
       told.origin AS origin,
       told.line AS line
FROM deployments AS told
LEFT JOIN artifact_of AS built ON built.digest = told.digest
JOIN deployment_match AS matched
  ON matched.repository = told.repository
 AND matched.environment = told.environment
 AND coalesce('=' || matched.declared, '') = coalesce('=' || told.service, '')
 AND coalesce('=' || matched.artifact, '') = coalesce('=' || built.name, '')
 AND coalesce('=' || matched.built_in, '') = coalesce('=' || built.built_in, '')
