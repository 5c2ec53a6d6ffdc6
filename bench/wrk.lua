-- Sends the requests that a folder holds. BENCH_FOLDER: `ids`, one a line; `tokens`, one for each id, where there are
-- any; `request-1`, `request-2`, … as they go over the wire but for {id}, {number} and {token}. BENCH_PLAN: their numbers,
-- as often as each is to come. BENCH_ORDER: `mixed` by chance, `turns` each with every id before the next.

local folder = os.getenv("BENCH_FOLDER")
local turns = os.getenv("BENCH_ORDER") == "turns"
local number = tonumber(os.getenv("BENCH_NUMBER"))
local ids, tokens, plan = {}, {}, {}
local id_at, plan_at = 0, 1

local function lines(name, into)
  local file = io.open(folder .. "/" .. name)
  if file == nil then return end
  for line in file:lines() do into[#into + 1] = line end
  file:close()
end

-- The text cut at what is put in: text, "{id}", text, "{number}", text.
local function pieces(name)
  local file = io.open(folder .. "/" .. name, "rb")
  local text = file:read("*a")
  file:close()
  local found, at = {}, 1
  while true do
    local from, to = text:find("{%a+}", at)
    while from ~= nil do
      local mark = text:sub(from, to)
      if mark == "{id}" or mark == "{number}" or mark == "{token}" then break end
      from, to = text:find("{%a+}", to + 1)
    end
    if from == nil then break end
    found[#found + 1] = text:sub(at, from - 1)
    found[#found + 1] = text:sub(from, to)
    at = to + 1
  end
  found[#found + 1] = text:sub(at)
  return found
end

lines("ids", ids)
lines("tokens", tokens)
math.randomseed(number)
for name in os.getenv("BENCH_PLAN"):gmatch("%d+") do plan[#plan + 1] = pieces("request-" .. name) end

local parts = {}

function request()
  local at, found
  if turns then
    id_at = id_at + 1
    if id_at > #ids then
      id_at = 1
      plan_at = plan_at % #plan + 1
    end
    at, found = id_at, plan[plan_at]
  else
    at, found = math.random(#ids), plan[math.random(#plan)]
  end
  local count = #found
  for place = 1, count do
    local piece = found[place]
    if piece == "{id}" then
      piece = ids[at]
    elseif piece == "{number}" then
      number = number + 1
      piece = string.format("%d", number)
    elseif piece == "{token}" then
      piece = tokens[at]
    end
    parts[place] = piece
  end
  return table.concat(parts, "", 1, count)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT {"requests":%d,"seconds":%f,"p50Ms":%f,"p99Ms":%f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
