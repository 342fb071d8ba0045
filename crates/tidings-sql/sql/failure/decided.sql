SELECT COUNT(*), MIN(newest.id), MAX(newest.id)
FROM (SELECT id FROM tidings_operator_action ORDER BY id DESC LIMIT 1000) AS newest
