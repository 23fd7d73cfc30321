-- One row per job: from its creation to its start. Source: metrics.md section 3, queue.
SELECT repository AS subject,
       day,
       CASE WHEN carried_over THEN 'carried_over'
            WHEN created_at IS NULL THEN 'no_created_at'
            WHEN started_at IS NULL THEN 'not_started' END AS excluded,
       queue_us AS amount_us,
       repository,
       run_id,
       attempt,
       job_id,
       name,
       runner,
       runner_label,
       created_at,
       started_at
FROM job_times
