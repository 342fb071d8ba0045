SELECT consumer, COUNT(*), MIN({processed_us}), MAX({processed_us})
FROM inbox
GROUP BY consumer
ORDER BY consumer
