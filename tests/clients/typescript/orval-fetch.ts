/** What orval's functions call in place of `fetch`: it knows the address and the token. */
import { base } from "./walk";

let access = "";

export function useToken(token: string): void {
  access = token;
}

export async function send<T>(path: string, options: RequestInit): Promise<T> {
  const headers = new Headers(options.headers);
  if (access) headers.set("Authorization", `Bearer ${access}`);
  const response = await fetch(base + path, { ...options, headers });
  const text = await response.text();
  return { status: response.status, headers: response.headers, data: text ? JSON.parse(text) : undefined } as T;
}
