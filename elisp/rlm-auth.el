;;; rlm-auth.el --- Keys from auth-source  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; The keys of models that the server lacks are looked for in auth-source.

;;; Code:

(require 'seq)
(require 'subr-x)

(declare-function auth-source-forget "auth-source" (spec))
(declare-function auth-source-search "auth-source")

(defcustom rlm-use-auth-source t
  "Whether to look in auth-source for the keys that the server lacks.
Only the hosts that the server asks for are looked up.  The keys go to the
server alone, which keeps them in memory."
  :group 'rlm
  :type 'boolean
  :package-version '(rlm . "0.1.0"))

(defun rlm-auth-keys (wanted)
  "Return a plist of models and secrets for what is WANTED and auth-source has.
WANTED is a vector of plists of :name and :host, as the server gives it.  Who
quits the prompt for a passphrase goes without keys."
  (require 'auth-source)
  (condition-case nil
      (seq-mapcat #'rlm-auth--key wanted)
    (quit (message "rlm: no keys from auth-source")
          nil)))

(defun rlm-auth--key (want)
  "Return the key that WANT, a plist, is about, in a plist, or nil.
What goes wrong there is told and costs this key alone."
  (condition-case problem
      (when-let* ((host (plist-get want :host))
                  (spec (list :host host :max 1 :require '(:secret)))
                  (found (progn
                           ;; It may have remembered for hours that there is none, or an old one.
                           (auth-source-forget spec)
                           (car (apply #'auth-source-search spec))))
                  (secret (plist-get found :secret))
                  (text (if (functionp secret) (funcall secret) secret)))
        (list (intern (concat ":" (plist-get want :name))) text))
    (error (message "rlm: auth-source: %s" (error-message-string problem))
           nil)))

(provide 'rlm-auth)
;;; rlm-auth.el ends here
