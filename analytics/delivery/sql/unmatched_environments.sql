-- Environments that no service's catalog entry names, with their deployments.
SELECT told.repository AS repository, told.environment AS environment, told.service AS service,
       count(*) AS rows, min(told.created_at) AS first_at, max(told.created_at) AS last_at
FROM deployments AS told
LEFT JOIN artifact_of AS built ON built.digest = told.digest
LEFT JOIN deployment_match AS matched
  ON matched.repository = told.repository
 AND matched.environment = told.environment
 AND coalesce('=' || matched.declared, '') = coalesce('=' || told.service, '')
 AND coalesce('=' || matched.artifact, '') = coalesce('=' || built.name, '')
 AND coalesce('=' || matched.built_in, '') = coalesce('=' || built.built_in, '')
WHERE matched.service IS NULL
GROUP BY told.repository, told.environment, told.service
