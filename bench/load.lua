-- What wrk sends: random ids, bodies and tokens of the accounts; the facts come from a file that `load.py` writes.
local facts, workload, headers = nil, nil, {}
local made, queue, first = nil, {}, 1
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

local function id(number) return facts.id_prefix .. string.format("%016x", number) end

local function note()
  local account = math.random(0, facts.accounts - 1)
  local number = account + facts.accounts * math.random(0, math.floor(facts.notes / facts.accounts) - 1)
  return account, id(number)
end

local function pick(list) return list[math.random(#list)] end

local make = {}

function make.get()
  local account, name = note()
  return wrk.format("GET", facts.item:format(name), headers[account + 1])
end

function make.list()
  return wrk.format("GET", facts.list, headers[math.random(facts.accounts)])
end

function make.create()
  local account, body = math.random(facts.accounts), pick(facts.bodies)
  if facts.owners then body = '{"owner":"' .. facts.owners[account] .. '",' .. body:sub(2) end
  return wrk.format("POST", facts.collection, headers[account], body)
end

function make.patch()
  local account, name = note()
  return wrk.format("PATCH", facts.item:format(name), headers[account + 1], pick(facts.patches))
end

function make.raw() return wrk.format("GET", pick(facts.paths), headers[math.random(facts.accounts)]) end

function make.refresh()
  local found = queue[first]
  if found == nil then return make.get() end
  queue[first] = nil
  first = first + 1
  if facts.refresh_header then
    return wrk.format("POST", facts.refresh, { Authorization = "Bearer " .. found })
  end
  local body = '{"refresh_token":"' .. found .. '"}'
  return wrk.format("POST", facts.refresh, { ["Content-Type"] = "application/json" }, body)
end

local steps = { "refresh", "list", "get", "get", "get", "get", "get", "patch", "create" }
local step = 0
function make.session()
  step = step % #steps + 1
  return make[steps[step]]()
end

local function decoded(text)
  local bits, count, out = 0, 0, {}
  for at = 1, #text do
    bits = bits * 64 + alphabet:find(text:sub(at, at), 1, true) - 1
    count = count + 6
    if count >= 8 then
      count = count - 8
      local byte = math.floor(bits / 2 ^ count)
      bits = bits - byte * 2 ^ count
      out[#out + 1] = string.char(byte)
    end
  end
  return table.concat(out)
end

-- The tokens of a refresh are used from then on, as an app does.
local function take_tokens(body)
  -- PocketBase has one token for both.
  local both = body:match('"token": ?"([^"]+)"')
  local access = body:match('"access_token": ?"([^"]+)"') or both
  local refresh = body:match('"refresh_token": ?"([^"]+)"') or both
  if not access then return end
  if refresh then queue[#queue + 1] = refresh end
  local claims = decoded(access:match("%.([^.]+)%."))
  local account = claims:match('"sub": ?"acc0(%x+)"') or claims:match('"id": ?"acc0(%x+)"')
  if account then headers[tonumber(account, 16) + 1].Authorization = "Bearer " .. access end
end

function init(args)
  workload = args[1]
  facts = dofile(args[2])
  math.randomseed(facts.seed)
  made = make[workload]
  for number, token in ipairs(facts.tokens) do
    headers[number] = { Authorization = "Bearer " .. token, ["Content-Type"] = "application/json" }
  end
  for _, token in ipairs(facts.refresh_tokens or {}) do queue[#queue + 1] = token end
  if workload == "session" then
    response = function(status, _, body) if status < 400 then take_tokens(body) end end
  end
end

function request() return made() end

function done(summary, latency)
  local e = summary.errors
  print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration,
    e.status + e.connect + e.read + e.write + e.timeout, latency:percentile(50), latency:percentile(99)))
end
