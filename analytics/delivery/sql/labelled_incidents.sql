-- Incidents with a label that the settings call drift; of several such labels the first by name.
SELECT labels.incident_id AS incident_id, min(labels.label) AS label
FROM incident_labels AS labels
JOIN drift_labels AS drift ON drift.label = labels.label
GROUP BY labels.incident_id
