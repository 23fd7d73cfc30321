"""SBOMs: reading, judging against the schema, facts, completeness, licences and known vulnerabilities.

Source: supply-chain.md section 2. A document comes from anybody: whatever it holds, the outcome is a value with words,
never a crash (`reading.Document` or `reading.UnreadableSbomError`).
"""
