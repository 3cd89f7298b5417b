// Uploads files by tus-js-client as it ships: node tus.mjs ADDRESS TOKEN NUMBER SIZE AT_ONCE
// A line of JSON for each: its file and its hash, or why it failed.
import { createHash, randomBytes } from "node:crypto";
import { Upload } from "tus-js-client";

const [address, token, number, size, atOnce] = process.argv.slice(2);
let left = Number(number);

const retryDelays = Array.from({ length: 200 }, (_, tries) => Math.min(100 * tries, 2000));

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
      onError: (error) => say({ failed: String(error) }),
      onSuccess: ({ lastResponse }) => say({ file: lastResponse.getHeader("X-File-Id") }),
    }).start();
  });
}

async function work() {
  while (left-- > 0) await upload();
}

await Promise.all(Array.from({ length: Number(atOnce) }, work));
