export default {
  madang: {
    input: "openapi.json",
    output: {
      target: "orval/api.ts",
      schemas: "orval/model",
      client: "fetch",
      override: { mutator: { path: "orval-fetch.ts", name: "send" } },
    },
  },
};
