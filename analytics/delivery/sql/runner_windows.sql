-- Busy time of each runner per repository and quarter, beside the window in which the runner was seen at work at all.
-- Source: metrics.md section 3 (runner utilisation = busy time / observed window per runner).
WITH work AS (
    SELECT jobs.runner, calendar.quarter, jobs.repository, min(jobs.day) AS day, count(*) AS jobs,
           sum(jobs.busy_us) AS busy_us, min(jobs.started_at) AS first_at, max(jobs.completed_at) AS last_at
    FROM job_times AS jobs
    JOIN calendar ON calendar.day = jobs.day
    WHERE jobs.runner IS NOT NULL AND jobs.busy_us IS NOT NULL
    GROUP BY jobs.runner, calendar.quarter, jobs.repository
)
SELECT runner, quarter, repository, day, jobs, busy_us,
       epoch_us(max(last_at) OVER (PARTITION BY runner, quarter))
     - epoch_us(min(first_at) OVER (PARTITION BY runner, quarter)) AS window_us
FROM work
