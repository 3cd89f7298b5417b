// Uploads files by tus-js-client as it ships: node tus.mjs ADDRESS TOKEN NUMBER SIZE AT_ONCE
// A line of JSON for each: its file and its hash, or why it failed; at the end how many answers broke off in their body.
import { createHash, randomBytes } from "node:crypto";
import { DefaultHttpStack, Upload } from "tus-js-client";

const [address, token, number, size, atOnce] = process.argv.slice(2);
let left = Number(number);

const retryDelays = Array.from({ length: 200 }, (_, tries) => Math.min(100 * tries, 2000));

// In Node, tus-js-client 4.3.1 waits for ever for the rest of an answer that breaks off behind its head; a browser tells
// it. So this is told here, by the option that is there for it, and nothing else is: what hangs otherwise hangs still.
let brokenOff = 0;

class TellingHttpStack extends DefaultHttpStack {
  createRequest(method, url) {
    const request = super.createRequest(method, url);
    const send = request.send.bind(request);
    request.send = (body) => {
      const answered = send(body);
      const broken = new Promise((_, fail) => {
        request.getUnderlyingObject().once("response", (answer) => {
          answer.once("close", () => {
            if (answer.complete) return;
            brokenOff += 1;
            fail(new Error("the answer broke off"));
          });
        });
      });
      return Promise.race([answered, broken]);
    };
    return request;
  }
}

const httpStack = new TellingHttpStack({});

function upload() {
  const content = randomBytes(Number(size));
  const sha256 = createHash("sha256").update(content).digest("hex");
  return new Promise((done) => {
    const say = (about) => {
      console.log(JSON.stringify({ sha256, ...about }));
      done();
    };
    new Upload(content, {
      endpoint: `${address}/v1/uploads`,
      headers: { Authorization: `Bearer ${token}` },
      metadata: { filename: "recording.bin", filetype: "application/octet-stream" },
      retryDelays,
      httpStack,
      onError: (error) => say({ failed: String(error) }),
      onSuccess: ({ lastResponse }) => say({ file: lastResponse.getHeader("X-File-Id") }),
    }).start();
  });
}

async function work() {
  while (left-- > 0) await upload();
}

await Promise.all(Array.from({ length: Number(atOnce) }, work));
console.log(JSON.stringify({ brokenOff }));
