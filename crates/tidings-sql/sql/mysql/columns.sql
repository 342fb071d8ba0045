SELECT column_name, CAST(data_type AS CHAR), extra LIKE '%auto_increment%', column_key = 'PRI'
FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table
ORDER BY ordinal_position
