-- Sends one body after the other and reports what was measured as JSON. With a mean pause in milliseconds, the pauses of
-- a connection are exponentially distributed, so that connections do not send at the same moment because they were
-- answered at the same moment.
local requests, at = {}, 0
init = function(args)
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, line)
  end
  if args[2] then
    local pause = tonumber(args[2])
    math.randomseed(42)
    delay = function() return math.floor(0.5 - pause * math.log(1 - math.random())) end
  end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
done = function(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %f, "p50_ms": %f, "p95_ms": %f, "p99_ms": %f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
