SELECT service,
       count(*) FILTER (WHERE outcome = 'success')::DOUBLE AS succeeded,
       median(lead_us) AS middle
FROM deployment_attempts
GROUP BY service
