-- Attempts of runs of the workflows that the catalog says deploy a service.
SELECT matched.service AS service,
       matched.has_job AS has_job,
       runs.repository AS repository,
       runs.run_id AS run_id,
       runs.attempt AS attempt,
       runs.head_sha AS head_sha,
       runs.head_branch AS head_branch,
       runs.status AS status,
       runs.conclusion AS conclusion,
       runs.created_at AS created_at,
       runs.started_at AS started_at,
       runs.completed_at AS completed_at,
       runs.actor AS actor,
       runs.source AS source,
       runs.origin AS origin,
       runs.line AS line
FROM pipeline_runs AS runs
JOIN run_match AS matched ON matched.repository = runs.repository AND matched.workflow = runs.workflow
