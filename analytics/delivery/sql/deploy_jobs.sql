-- Jobs of the deploying runs of services whose catalog entry names a job.
SELECT runs.service AS service,
       jobs.repository AS repository,
       jobs.run_id AS run_id,
       jobs.attempt AS attempt,
       jobs.name AS name,
       runs.head_sha AS head_sha,
       runs.head_branch AS head_branch,
       jobs.status AS status,
       jobs.conclusion AS conclusion,
       coalesce(jobs.created_at, jobs.started_at, runs.created_at) AS created_at,
       jobs.started_at AS started_at,
       jobs.completed_at AS completed_at,
       runs.actor AS actor,
       jobs.source AS source,
       jobs.origin AS origin,
       jobs.line AS line
FROM pipeline_jobs AS jobs
JOIN deploy_runs AS runs
  ON runs.repository = jobs.repository AND runs.run_id = jobs.run_id AND runs.attempt = jobs.attempt
WHERE runs.has_job
