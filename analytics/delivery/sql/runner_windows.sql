-- Busy time of each runner per repository and quarter, beside the window in which the runner was seen at work at all.
-- Source: metrics.md section 3 (runner utilisation = busy time / observed window per runner).
WITH work AS (
    SELECT jobs.runner AS runner, calendar.quarter AS quarter, jobs.repository AS repository, min(jobs.day) AS day,
           count(*) AS jobs, sum(jobs.busy_us) AS busy_us, min(jobs.started_at) AS first_at,
           max(jobs.completed_at) AS last_at
    FROM job_times AS jobs
    JOIN calendar ON calendar.day = jobs.day
    WHERE jobs.runner IS NOT NULL AND jobs.busy_us IS NOT NULL
    GROUP BY jobs.runner, calendar.quarter, jobs.repository
), seen AS (
    SELECT runner, quarter, repository, day, jobs, busy_us,
           min(first_at) OVER (PARTITION BY runner, quarter) AS seen_from,
           max(last_at) OVER (PARTITION BY runner, quarter) AS seen_to
    FROM work
)
SELECT runner, quarter, repository, day, jobs, busy_us, us_between(seen_from, seen_to) AS window_us
FROM seen
