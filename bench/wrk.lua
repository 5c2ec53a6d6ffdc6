-- One kind of request against the session service. BENCH_OP says which; BENCH_IDS is a file of ids, one a line.

local op = os.getenv("BENCH_OP")
local ids = {}
local counter = 0

for line in io.lines(os.getenv("BENCH_IDS")) do ids[#ids + 1] = line end

math.randomseed(tonumber(os.getenv("BENCH_SEED") or "1"))

local text600 = string.rep("lorem ipsum dolor sit amet ", 22)
local text300 = string.rep("checkpoint of some work ", 11)
local headers = { ["Content-Type"] = "application/json" }

local function any() return ids[math.random(#ids)] end

local requests = {
  get = function() return wrk.format("GET", "/sessions/" .. any()) end,
  list = function() return wrk.format("GET", "/sessions/?agent_id=" .. any() .. "&limit=10") end,
  create = function()
    local body = '{"agent_id":"' .. any() .. '","session_type":"development","runtime_backend":"local",' ..
      '"context":{"text":"' .. text600 .. '"}}'
    return wrk.format("POST", "/sessions/", headers, body)
  end,
  -- The counter makes each one a change.
  patch = function()
    counter = counter + 1
    local body = '{"checkpoint":{"step":' .. counter .. ',"salt":' .. math.random(1000000000) .. ',"text":"' .. text300 .. '"}}'
    return wrk.format("PATCH", "/sessions/" .. any(), headers, body)
  end,
}

request = requests[op]

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT {"requests":%d,"seconds":%f,"p50Ms":%f,"p99Ms":%f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
