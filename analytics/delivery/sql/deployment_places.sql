-- What decides whose deployment one is, each combination once: few, however many deployments there are.
SELECT DISTINCT told.service AS declared, told.repository AS repository, told.environment AS environment,
       built.name AS artifact, built.built_in AS built_in
FROM deployments AS told
LEFT JOIN artifact_of AS built ON built.digest = told.digest
